package redis

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
)

// maxArguments bounds one operation: Lua's stack takes 8000 values.
const maxArguments = 4096

// operationOverhead is what an operation is taken to cost beside its bytes.
const operationOverhead = 64

// operation is one command with its arguments, the second of which is its key.
type operation []string

func (o operation) key() string { return o[1] }

func (o operation) size() int {
	size := operationOverhead
	for _, argument := range o {
		size += len(argument)
	}
	return size
}

// encode returns what a script gets and the server keeps of the operations: for each
// the number of its arguments, and the arguments. Flat, so that neither side needs a
// codec, and binary values stay as they are.
func encode(operations []operation) []string {
	n := 0
	for _, o := range operations {
		n += 1 + len(o)
	}
	flat := make([]string, 0, n)
	for _, o := range operations {
		flat = append(flat, strconv.Itoa(len(o)))
		flat = append(flat, o...)
	}
	return flat
}

var errDamaged = errors.New("the operations that the server keeps for the branch are damaged")

// decode reads what encode writes, and nothing else.
func decode(flat []string) ([]operation, error) {
	var operations []operation
	for len(flat) > 0 {
		n, err := strconv.Atoi(flat[0])
		if err != nil || strconv.Itoa(n) != flat[0] || n < 2 || n > maxArguments+2 || n > len(flat)-1 {
			return nil, fmt.Errorf("%w: operation %d has %q arguments and %d are left", errDamaged, len(operations), flat[0], len(flat)-1)
		}
		operations = append(operations, operation(flat[1:1+n]))
		flat = flat[1+n:]
	}
	return operations, nil
}

// keysOf returns the keys that the operations write, each once.
func keysOf(operations []operation) []string {
	keys := make([]string, len(operations))
	for i, o := range operations {
		keys[i] = o.key()
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}
