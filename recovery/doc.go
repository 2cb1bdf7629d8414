// Package recovery says what to do about what a crash left behind. It reads what
// the log holds and what the participants list, and returns a plan; it never
// acts. The coordinator carries the plan out with the same drive loop that live
// transactions use (R11).
//
// Two questions are answered here: how does each transaction of the log go on
// ([NewPlan]), and what becomes of a prepared branch that the log does not hold
// ([Judge])?
package recovery
