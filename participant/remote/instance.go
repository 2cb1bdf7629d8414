package remote

import (
	"fmt"
	"strings"

	"github.com/assent-tm/assent/participant"
)

// instanceMark begins the data of branches that belong to an instance. No UTF-8 text
// and no msgpack value begins with 0xc1.
const instanceMark = "\xc1in"

// WithInstance returns the data to enlist a branch with whose session lives in one
// instance of p, a Hub's participant: its calls go to that instance while it is
// attached. The participant gets data as it was. With no instance the calls go to any;
// for other participants, that is an error unless instance is empty.
//
// Both are kept in the branch's data, so the name of the instance takes of
// participant.MaxData, too.
func WithInstance(p participant.Participant, instance string, data []byte) ([]byte, error) {
	_, attached := p.(interface{ attachedTo() *attached })
	if instance == "" && (!attached || !strings.HasPrefix(string(data), instanceMark)) {
		return data, nil
	}
	if !attached {
		return nil, fmt.Errorf("participant %q has no attached instances: its branches can't belong to one", p.Name())
	}
	if instance != "" && participant.ValidName(instance) != nil {
		return nil, invalidInstance(instance)
	}
	marked := make([]byte, 0, len(instanceMark)+1+len(instance)+len(data))
	marked = append(marked, instanceMark...)
	marked = append(marked, byte(len(instance)))
	marked = append(marked, instance...)
	return append(marked, data...), nil
}

// splitInstance reads what WithInstance returns. What it does not write is all data.
func splitInstance(marked []byte) (instance string, data []byte) {
	rest, found := strings.CutPrefix(string(marked), instanceMark)
	if !found || rest == "" || len(rest)-1 < int(rest[0]) {
		return "", marked
	}
	length := int(rest[0])
	return rest[1 : 1+length], marked[len(instanceMark)+1+length:]
}

func invalidInstance(instance string) error {
	return fmt.Errorf("instance %q is not 1 to %d characters of A-Z, a-z, 0-9, '.', '_' and '-'", instance, participant.MaxName)
}
