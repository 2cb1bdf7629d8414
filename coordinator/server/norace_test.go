//go:build !race

package server_test

const scale = 1
