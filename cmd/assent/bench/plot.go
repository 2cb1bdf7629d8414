package bench

import (
	"fmt"
	"math"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/go-analyze/charts"
)

// The plot: a title above two panels, side by side.
const (
	plotWidth, plotHeight = 1040, 480
	titleHeight           = 50
	margin                = 16
)

// Assent in blue, what it is compared with in orange; the tail of a latency is the
// paler one.
var (
	blue, paleBlue     = charts.ColorRGB(31, 95, 180), charts.ColorRGB(140, 180, 230)
	orange, paleOrange = charts.ColorRGB(200, 90, 10), charts.ColorRGB(245, 180, 110)
)

// line is one curve of a panel.
type line struct {
	name  string
	color charts.Color
	value func(Point) float64
}

var (
	throughput = []line{
		{"Assent", blue, func(p Point) float64 { return p.Assent.PerSecond }},
		{"a db.Update for each record", orange, func(p Point) float64 { return p.Update.PerSecond }},
	}
	latency = []line{
		{"Assent p50", blue, func(p Point) float64 { return p.Assent.P50Micros / 1000 }},
		{"p99", paleBlue, func(p Point) float64 { return p.Assent.P99Micros / 1000 }},
		{"db.Update p50", orange, func(p Point) float64 { return p.Update.P50Micros / 1000 }},
		{"p99", paleOrange, func(p Point) float64 { return p.Update.P99Micros / 1000 }},
	}
)

// PlotFormat returns the format of a plot in that file: "png" or "svg".
func PlotFormat(path string) (string, error) {
	switch format := strings.ToLower(strings.TrimPrefix(filepath.Ext(path), ".")); format {
	case "png", "svg":
		return format, nil
	default:
		return "", fmt.Errorf("%s: a plot's name ends in .svg or .png", path)
	}
}

// Plot draws throughput and latency over clients, as "png" or "svg".
func Plot(r Report, format string) ([]byte, error) {
	canvas := charts.NewPainter(charts.PainterOptions{OutputFormat: format, Width: plotWidth, Height: plotHeight})
	canvas.FilledRect(0, 0, plotWidth, plotHeight, charts.ColorWhite, charts.ColorWhite, 0)
	canvas.Text("Transactions of two participants, by clients", margin, 24, 0, charts.FontStyle{FontSize: 14, FontColor: charts.ColorBlack})
	canvas.Text(r.Machine.String(), margin, 44, 0, charts.FontStyle{FontSize: 10, FontColor: charts.ColorGray})
	for i, panel := range []struct {
		unit  string
		lines []line
	}{{"transactions per second", throughput}, {"latency, milliseconds", latency}} {
		box := charts.NewBox(i*plotWidth/2, titleHeight, (i+1)*plotWidth/2, plotHeight)
		if err := drawPanel(canvas.Child(charts.PainterBoxOption(box)), panel.unit, panel.lines, r.Clients); err != nil {
			return nil, fmt.Errorf("draw the plot: %w", err)
		}
	}
	return canvas.Bytes()
}

// drawPanel draws lines over clients. Both scales are logarithmic: the library gets
// the logarithms, and labels that undo them.
func drawPanel(p *charts.Painter, unit string, lines []line, points []Point) error {
	var names, clients []string
	var values [][]float64
	var colors []charts.Color
	lowest, highest := math.Inf(1), math.Inf(-1)
	for _, point := range points {
		clients = append(clients, strconv.Itoa(point.Clients))
	}
	for _, l := range lines {
		var logs []float64
		for _, point := range points {
			log := math.Log10(l.value(point))
			lowest, highest = min(lowest, math.Floor(log)), max(highest, math.Ceil(log))
			logs = append(logs, log)
		}
		names, values, colors = append(names, l.name), append(values, logs), append(colors, l.color)
	}
	option := charts.NewLineChartOptionWithData(values)
	option.Theme = charts.GetTheme(charts.ThemeLight).WithSeriesColors(colors)
	option.Padding = charts.NewBoxEqual(margin)
	option.Legend = charts.LegendOption{SeriesNames: names, Offset: charts.OffsetLeft}
	option.XAxis = charts.XAxisOption{Title: "clients", Labels: clients, BoundaryGap: charts.Ptr(false)}
	option.YAxis = []charts.YAxisOption{{
		Title: unit, Min: &lowest, Max: &highest, LabelCount: int(highest-lowest) + 1,
		ValueFormatter: func(log float64) string { return number(math.Pow(10, log)) },
	}}
	return p.LineChart(option)
}
