package bench

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Figure is one measured value. Its name is <area>.<what>[.c<clients>].
type Figure struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
	// Bound is "<=", ">=" or "=", how the value is to stand to Aim; "" for a figure
	// that is only told.
	Bound string  `json:"bound,omitempty"`
	Aim   float64 `json:"aim,omitempty"`
	// Met is nil for a figure without an aim.
	Met *bool `json:"met,omitempty"`
	// What says what was measured.
	What string `json:"what"`
}

func told(name string, value float64, unit, what string) Figure {
	return Figure{Name: name, Value: value, Unit: unit, What: what}
}

func atMost(name string, value float64, unit string, aim float64, what string) Figure {
	return told(name, value, unit, what).aim("<=", aim, value <= aim)
}

func atLeast(name string, value float64, unit string, aim float64, what string) Figure {
	return told(name, value, unit, what).aim(">=", aim, value >= aim)
}

func exactly(name string, value float64, unit string, aim float64, what string) Figure {
	return told(name, value, unit, what).aim("=", aim, value == aim)
}

func (f Figure) aim(bound string, aim float64, met bool) Figure {
	f.Bound, f.Aim, f.Met = bound, aim, new(met)
	return f
}

// number writes a value for people: three digits at least of what is not whole.
func number(v float64) string {
	if v == 0 {
		return "0"
	}
	decimals := max(0, 2-int(math.Floor(math.Log10(math.Abs(v)))))
	text := strconv.FormatFloat(v, 'f', decimals, 64)
	if decimals > 0 {
		text = strings.TrimRight(strings.TrimRight(text, "0"), ".")
	}
	return text
}

// median sorts values and returns the middle one.
func median[T float64 | time.Duration](values []T) T { return percentile(values, 50) }

// percentile sorts values and returns the one that p of a hundred do not exceed.
func percentile[T float64 | time.Duration](values []T, p int) T {
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	return values[min(len(values)*p/100, len(values)-1)]
}

// medianOf returns the median of what value says of each round.
func medianOf[R any](rounds []R, value func(R) float64) float64 {
	var values []float64
	for _, r := range rounds {
		values = append(values, value(r))
	}
	return median(values)
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
