package orders

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/assent-tm/assent/cmd/assent/demo"
)

// tellKept says where what the demo made is, and how to look at it. again are the
// commands that serve it again.
func (s *story) tellKept(again map[string]string) {
	s.Print("\nEverything is kept. Branches of transaction TERM-UUID are named %s:TERM:UUID:NUMBER\n", s.run.domain())
	for _, name := range participantNames {
		look, remove := s.inDatabase(name)
		if s.databases[name] == nil {
			look, remove = s.inStream()
		}
		s.Line(name, "%s", s.site.addresses.shown(name))
		for _, line := range look {
			s.Line("", "%s", line)
		}
		if own := s.site.own[name]; own != nil {
			s.Line("", "to serve it again: %s", again[name])
			remove = "rm -r " + own.Dir()
		}
		s.Line("", "to remove it: %s", remove)
	}
	s.Line("log", "assent log dump %s", filepath.Join(s.Dir, demo.LogFile))
	s.Line("", "what the coordinators told: %s", filepath.Join(s.Dir, demo.MessageFile))
}

func (s *story) inDatabase(name string) (look []string, remove string) {
	prepared := fmt.Sprintf("SELECT * FROM pg_prepared_xacts WHERE gid LIKE '%s:%%';", s.run.domain())
	if name == mariadbName {
		prepared = "XA RECOVER;"
	}
	return []string{
		prepared,
		fmt.Sprintf("SELECT * FROM %s WHERE tx = 'TERM-UUID'; SELECT * FROM %s;", s.run.table("line"), s.run.table("stock")),
		fmt.Sprintf("SELECT * FROM %s WHERE id LIKE '%s:TERM:UUID:%%';", s.run.table("witness"), s.run.domain()),
	}, "DROP TABLE " + strings.Join(s.run.tables(), ", ") + ";"
}

func (s *story) inStream() (look []string, remove string) {
	return []string{
		fmt.Sprintf("nats stream view %s; nats stream view %s", s.run.stream(), s.run.staging()),
	}, fmt.Sprintf("nats stream rm %s; nats stream rm %s", s.run.stream(), s.run.staging())
}
