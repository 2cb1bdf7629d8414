package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Problem is one mistake.
type Problem struct {
	// Where is the file and line, the variable or the flag.
	Where string
	Key   string
	// What is wrong, and what to do about it.
	What, Fix string

	line int
}

func (p Problem) String() string {
	text := p.Where
	if p.Key != "" {
		text += ": " + p.Key
	}
	text += ": " + p.What
	if p.Fix != "" {
		text += ": " + p.Fix
	}
	return text
}

// Problems are all mistakes that were found.
type Problems []Problem

func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i, one := range p {
		lines[i] = one.String()
	}
	return strings.Join(lines, "\n")
}

func (p Problems) sorted() Problems {
	slices.SortStableFunc(p, func(a, b Problem) int { return cmp.Compare(a.line, b.line) })
	return p
}

// Origin is where a value comes from.
type Origin struct {
	// Text names it: "default", a file with its line, a variable, a flag.
	Text string
	line int
}

func fileOrigin(path string, line int) Origin { return Origin{fmt.Sprintf("%s:%d", path, line), line} }

// nearest returns the known word that a misspelt one is likely to be, or "".
func nearest(word string, known []string) string {
	best, distance := "", 3
	for _, k := range known {
		if d := editDistance(word, k); d < distance && d < len(word) {
			best, distance = k, d
		}
	}
	return best
}

// editDistance is how many letters have to be changed, put in or left out (Levenshtein).
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replaced := diagonal
			if a[i] != b[j] {
				replaced++
			}
			diagonal = row[j+1]
			row[j+1] = min(replaced, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
