package servers

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
)

const (
	// maxQuoted is how many lines of a log an error repeats: mariadb-install-db says
	// what is wrong before 30 lines of advice.
	maxQuoted = 40
	// maxRead bounds how much of a log is looked at, in bytes from its end.
	maxRead = 16 << 10
)

// logFrom returns the last lines that were written to the file after the first
// start bytes, to be added to an error.
func logFrom(path string, start int64) string {
	text, err := readEnd(path, start)
	if err != nil {
		return fmt.Sprintf("; its log can't be read: %v", err)
	}
	return quote(text)
}

func readEnd(path string, start int64) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }() // only read
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	start = max(start, info.Size()-maxRead)
	return io.ReadAll(io.NewSectionReader(file, start, info.Size()-start))
}

// quote returns the last lines of what a program said, to be added to an error.
func quote(text []byte) string {
	text = bytes.TrimSpace(text)
	if len(text) == 0 {
		return "; it said nothing"
	}
	lines := strings.Split(string(text), "\n")
	return "; it said:\n" + strings.Join(lines[max(0, len(lines)-maxQuoted):], "\n")
}
