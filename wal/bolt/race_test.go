//go:build race

package bolt

// raceDetector: everything takes ten times as long.
const raceDetector = true
