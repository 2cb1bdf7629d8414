package bench

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

var example = Report{
	Machine: Machine{CPUs: 2, Processor: "Z80", FileSystem: "ext4", System: "Linux 6.18", Go: "go1.26"},
	Figures: []Figure{
		told("log.commit", 249.6, "us", "one commit"),
		atLeast("tx.update_ratio.c64", 12.5, "times", 30, "to plain"),
		exactly("tx.fdatasyncs.c1", 4, "", 4, "two commits"),
	},
}

func TestTable(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, WriteTable(&out, example))
	require.Equal(t, `2 x Z80, ext4, Linux 6.18, go1.26

FIGURE               VALUE  UNIT   AIM    MET  WHAT
log.commit           250    us                 one commit
tx.update_ratio.c64  12.5   times  >= 30  no   to plain
tx.fdatasyncs.c1     4             = 4    yes  two commits

1 of 2 aims met; missed: tx.update_ratio.c64
`, out.String())
}

func TestMarkdown(t *testing.T) {
	var out bytes.Buffer
	met := example
	met.Figures = met.Figures[2:]
	met.Machine.FileSystem = "tmpfs"
	require.NoError(t, WriteMarkdown(&out, met))
	require.Equal(t, `2 x Z80, tmpfs, Linux 6.18, go1.26 (in memory: no disk was measured).

| figure | value | unit | aim | met | what |
|---|---|---|---|---|---|
| tx.fdatasyncs.c1 | 4 |  | = 4 | yes | two commits |

1 of 1 aims met.
`, out.String())
}

func TestJSON(t *testing.T) {
	var out bytes.Buffer
	r := example
	r.Figures = r.Figures[:2]
	r.Clients = []Point{{Clients: 4, Assent: Curve{PerSecond: 1000, P50Micros: 600, P99Micros: 900}}}
	require.NoError(t, WriteJSON(&out, r))
	require.Equal(t, `{
  "machine": {
    "cpus": 2,
    "processor": "Z80",
    "file_system": "ext4",
    "system": "Linux 6.18",
    "go": "go1.26"
  },
  "figures": [
    {
      "name": "log.commit",
      "value": 249.6,
      "unit": "us",
      "what": "one commit"
    },
    {
      "name": "tx.update_ratio.c64",
      "value": 12.5,
      "unit": "times",
      "bound": ">=",
      "aim": 30,
      "met": false,
      "what": "to plain"
    }
  ],
  "clients": [
    {
      "clients": 4,
      "assent": {
        "per_second": 1000,
        "p50_us": 600,
        "p99_us": 900
      },
      "update": {
        "per_second": 0,
        "p50_us": 0,
        "p99_us": 0
      }
    }
  ]
}
`, out.String())
}
