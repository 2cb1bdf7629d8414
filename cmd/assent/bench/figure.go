// Package bench measures Assent on the machine it runs on. Speed depends on the
// disk, and a shared machine's disk changes from minute to minute: so every figure
// is a ratio to something measured in the same rounds, side by side.
package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"
)

// Figure is one measured value. Its name is <area>.<what>[.c<clients>].
type Figure struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
	// Aim is the value to reach, from below or above as AtLeast says; zero for a
	// figure that is only told.
	Aim     float64 `json:"aim,omitempty"`
	AtLeast bool    `json:"-"`
	// Met is nil for a figure without an aim.
	Met *bool `json:"met,omitempty"`
	// What says what was measured.
	What string `json:"-"`
}

func atMost(name string, value float64, unit string, aim float64, what string) Figure {
	return Figure{Name: name, Value: value, Unit: unit, Aim: aim, Met: new(value <= aim), What: what}
}

func atLeast(name string, value float64, unit string, aim float64, what string) Figure {
	return Figure{Name: name, Value: value, Unit: unit, Aim: aim, AtLeast: true, Met: new(value >= aim), What: what}
}

func told(name string, value float64, unit, what string) Figure {
	return Figure{Name: name, Value: value, Unit: unit, What: what}
}

// WriteJSON writes the figures as an array.
func WriteJSON(w io.Writer, figures []Figure) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(figures)
}

// WriteTable writes the figures for people.
func WriteTable(w io.Writer, figures []Figure) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "FIGURE\tVALUE\tUNIT\tAIM\tMET\tWHAT")
	for _, f := range figures {
		aim, met := "", ""
		if f.Aim != 0 {
			aim, met = fmt.Sprintf("<= %.4g", f.Aim), "no"
			if f.AtLeast {
				aim = fmt.Sprintf(">= %.4g", f.Aim)
			}
			if f.Met != nil && *f.Met {
				met = "yes"
			}
		}
		fmt.Fprintf(t, "%s\t%.4g\t%s\t%s\t%s\t%s\n", f.Name, f.Value, f.Unit, aim, met, f.What)
	}
	return t.Flush()
}

// median sorts values and returns the middle one.
func median[T float64 | time.Duration](values []T) T {
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	return values[len(values)/2]
}
