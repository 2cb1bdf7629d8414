//go:build race

package server_test

// scale: with the race detector everything takes ten times as long.
const scale = 10
