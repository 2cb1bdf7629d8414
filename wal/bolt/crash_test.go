package bolt
const childEnv="X"
func child() int {return 0}
