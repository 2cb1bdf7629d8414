package bench

import (
	"bytes"
	"encoding/xml"
	"image/color"
	"image/png"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func plotted() Report {
	r := example
	for i, clients := range clientCounts {
		rate := 1000 * float64(int(1)<<i)
		r.Clients = append(r.Clients, Point{
			clients, Curve{rate, 600 * float64(i+1), 900 * float64(i+1)}, Curve{950, 1000 * float64(clients), 1500 * float64(clients)},
		})
	}
	return r
}

func TestPlotSVG(t *testing.T) {
	picture, err := Plot(plotted(), "svg")
	require.NoError(t, err)
	require.Less(t, len(picture), 100<<10)
	var svg struct {
		Text []string `xml:"text"`
		Path []struct {
			Style string `xml:"style,attr"`
		} `xml:"path"`
	}
	require.NoError(t, xml.Unmarshal(picture, &svg))
	for _, want := range []string{
		"Transactions of two participants, by clients", "2 x Z80, ext4, Linux 6.18, go1.26",
		"transactions per second", "latency, milliseconds", "clients",
		"Assent", "a db.Update for each record", "Assent p50", "db.Update p50", "p99",
		"1", "4", "16", "64", "256", "1024", // clients
		"100", "1000", "10000", "100000", "0.1", "10", // values
	} {
		require.Contains(t, svg.Text, want)
	}
	curves := map[string]int{}
	for _, p := range svg.Path {
		curves[p.Style]++
	}
	for _, c := range []string{"rgb(31,95,180)", "rgb(140,180,230)", "rgb(200,90,10)", "rgb(245,180,110)"} {
		require.Positive(t, curves["stroke-width:2;stroke:"+c+";fill:none"], c)
	}
}

func TestPlotPNG(t *testing.T) {
	picture, err := Plot(plotted(), "png")
	require.NoError(t, err)
	decoded, err := png.Decode(bytes.NewReader(picture))
	require.NoError(t, err)
	require.Equal(t, plotWidth, decoded.Bounds().Dx())
	require.Equal(t, plotHeight, decoded.Bounds().Dy())
	drawn := [2]bool{} // something of Assent's colour in each panel
	for x := range plotWidth {
		for y := range plotHeight {
			if decoded.At(x, y) == (color.RGBA{R: 31, G: 95, B: 180, A: 255}) {
				drawn[x*2/plotWidth] = true
			}
		}
	}
	require.Equal(t, [2]bool{true, true}, drawn)
}

func TestPlotFormat(t *testing.T) {
	require.Equal(t, "svg", must(PlotFormat("a/b.svg")))
	require.Equal(t, "png", must(PlotFormat("b.PNG")))
	for _, path := range []string{"plot", "plot.pdf", ".", ""} {
		_, err := PlotFormat(path)
		require.ErrorContains(t, err, "ends in .svg or .png")
	}
}

func TestMeasureClients(t *testing.T) {
	o := Options{Rounds: 2, Slice: time.Millisecond, Progress: func(string) {}}
	points, err := measureClients(t.Context(), o, t.TempDir(), []int{1, 8})
	require.NoError(t, err)
	require.Len(t, points, 2)
	require.Equal(t, 8, points[1].Clients)
	for _, p := range points {
		for _, c := range []Curve{p.Assent, p.Update} {
			require.Positive(t, c.PerSecond)
			require.Positive(t, c.P50Micros)
			require.GreaterOrEqual(t, c.P99Micros, c.P50Micros)
		}
	}
}
