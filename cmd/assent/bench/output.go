package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// WriteJSON writes the report as one object.
func WriteJSON(w io.Writer, r Report) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false) // "<=" is to be read
	encoder.SetIndent("", "  ")
	return encoder.Encode(r)
}

// WriteTable writes the report for people.
func WriteTable(w io.Writer, r Report) error {
	fmt.Fprintf(w, "%s\n\n", r.Machine)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "FIGURE\tVALUE\tUNIT\tAIM\tMET\tWHAT")
	for _, f := range r.Figures {
		fmt.Fprintln(t, strings.Join(f.cells(), "\t"))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\n%s\n", r.aims())
	return err
}

// WriteMarkdown writes the report as README shows it.
func WriteMarkdown(w io.Writer, r Report) error {
	fmt.Fprintf(w, "%s.\n\n| figure | value | unit | aim | met | what |\n|---|---|---|---|---|---|\n", r.Machine)
	for _, f := range r.Figures {
		fmt.Fprintf(w, "| %s |\n", strings.Join(f.cells(), " | "))
	}
	_, err := fmt.Fprintf(w, "\n%s.\n", r.aims())
	return err
}

func (f Figure) cells() []string {
	aim, met := "", ""
	if f.Met != nil {
		aim, met = f.Bound+" "+number(f.Aim), "no"
		if *f.Met {
			met = "yes"
		}
	}
	return []string{f.Name, number(f.Value), f.Unit, aim, met, f.What}
}

// aims counts the aims that were met and names the others.
func (r Report) aims() string {
	var aims int
	var missed []string
	for _, f := range r.Figures {
		if f.Met == nil {
			continue
		}
		aims++
		if !*f.Met {
			missed = append(missed, f.Name)
		}
	}
	if aims == 0 {
		return "none of these figures has an aim"
	}
	text := fmt.Sprintf("%d of %d aims met", aims-len(missed), aims)
	if len(missed) > 0 {
		text += "; missed: " + strings.Join(missed, ", ")
	}
	return text
}
