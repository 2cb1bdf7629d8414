package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/cmd/assent/bench"
)

// The papers name files, symbols and commands in `backticks`; each must exist. What
// stands in a code block (```) is not read, nor is what has none of these forms:
//
//	`make lint`, `assent demo`, `go run ./cmd/assent demo`   a target, a subcommand
//	`wal/bolt`, `testdata/wal/*.golden`     begins with a folder of the top level: a path or pattern
//	`drive.go`, `protocol/step.go`          ends in .go or .md: a file by the end of its path
//	`wal.Store`, `protocol.Machine.Step`    begins with a package or type of ours: a symbol of it
//	`DTM.Run`, `HeuristicError`, `newTerm`  capitals inside: a symbol, method or field of any package
//
// Around a symbol `*`, `&`, `[]` and an argument list are left out. All small letters
// (`begun`) and all capitals (`COMMIT`) are words, and `context.Canceled` is another
// project's: a foreign symbol is named with its package.
func TestPapersNameWhatExists(t *testing.T) {
	present := files(t)
	tree := parseTree(t, present)
	for _, paper := range []string{"ARCHITECTURE.md", "README.md"} {
		for span, line := range spans(string(read(t, paper))) {
			if problem := tree.check(span); problem != "" {
				t.Errorf("%s:%d: `%s`: %s", paper, line, span, problem)
			}
		}
	}
}

// spans returns what stands in backticks outside of code blocks, with its first line.
func spans(text string) map[string]int {
	inline := regexp.MustCompile("`([^`\n]+)`")
	found := map[string]int{}
	inBlock, number := false, 0
	for line := range strings.Lines(text) {
		number++
		if strings.HasPrefix(strings.TrimSpace(line), "```") {
			inBlock = !inBlock
			continue
		}
		if inBlock {
			continue
		}
		for _, match := range inline.FindAllStringSubmatch(line, -1) {
			if _, ok := found[match[1]]; !ok {
				found[match[1]] = number
			}
		}
	}
	return found
}

// tree is what the papers can name.
type tree struct {
	files       []string
	targets     map[string]bool // of the Makefile
	subcommands map[string]bool // of cmd/assent, at any depth
	owners      map[string]bool // packages and types: what stands before a dot
	symbols     map[string]bool // Name, Type.Member, package.Name, package.Type.Member
}

func parseTree(t *testing.T, present []string) *tree {
	t.Helper()
	found := &tree{
		files:       present,
		targets:     matches(read(t, "Makefile"), `(?m)^([a-z]+):`),
		subcommands: map[string]bool{"help": true, "completion": true},
		owners:      map[string]bool{},
		symbols:     map[string]bool{},
	}
	for _, name := range present {
		if path.Ext(name) != ".go" || strings.Contains(name, "testdata/") {
			continue
		}
		text := read(t, name)
		if strings.HasPrefix(name, "cmd/assent/") {
			for use := range matches(text, `\bUse:\s*"([a-z]+)`) {
				found.subcommands[use] = true
			}
		}
		// A file that does not parse is the compiler's to report.
		file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, name), text, parser.SkipObjectResolution)
		if err == nil {
			found.addFile(file)
		}
	}
	require.NotEmpty(t, found.targets)
	return found
}

func matches(text []byte, pattern string) map[string]bool {
	found := map[string]bool{}
	for _, match := range regexp.MustCompile(pattern).FindAllSubmatch(text, -1) {
		found[string(match[1])] = true
	}
	return found
}

func (tr *tree) addFile(file *ast.File) {
	pkg := strings.TrimSuffix(file.Name.Name, "_test")
	tr.owners[pkg] = true
	for _, declaration := range file.Decls {
		switch d := declaration.(type) {
		case *ast.FuncDecl:
			if d.Recv == nil {
				tr.addSymbol(pkg, d.Name.Name)
			} else if receiver := typeName(d.Recv.List[0].Type); receiver != "" {
				tr.addMember(pkg, receiver, d.Name.Name)
			}
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				tr.addSpec(pkg, spec)
			}
		}
	}
}

func (tr *tree) addSpec(pkg string, spec ast.Spec) {
	switch s := spec.(type) {
	case *ast.ValueSpec:
		for _, name := range s.Names {
			tr.addSymbol(pkg, name.Name)
		}
	case *ast.TypeSpec:
		tr.addSymbol(pkg, s.Name.Name)
		tr.owners[s.Name.Name] = true
		var members *ast.FieldList
		switch definition := s.Type.(type) {
		case *ast.StructType:
			members = definition.Fields
		case *ast.InterfaceType:
			members = definition.Methods
		default:
			return
		}
		for _, member := range members.List {
			for _, name := range member.Names {
				tr.addMember(pkg, s.Name.Name, name.Name)
			}
			if len(member.Names) == 0 {
				tr.addMember(pkg, s.Name.Name, typeName(member.Type))
			}
		}
	}
}

func (tr *tree) addSymbol(pkg, name string) {
	tr.symbols[name], tr.symbols[pkg+"."+name] = true, true
}

func (tr *tree) addMember(pkg, owner, name string) {
	tr.symbols[name], tr.symbols[owner+"."+name], tr.symbols[pkg+"."+owner+"."+name] = true, true, true
}

// typeName is the name of a receiver's or an embedded field's type.
func typeName(e ast.Expr) string {
	switch x := e.(type) {
	case *ast.Ident:
		return x.Name
	case *ast.StarExpr:
		return typeName(x.X)
	case *ast.IndexExpr:
		return typeName(x.X)
	case *ast.SelectorExpr:
		return x.Sel.Name
	default:
		return ""
	}
}

var (
	makeTarget = regexp.MustCompile(`^make ([a-z]+)`)
	subcommand = regexp.MustCompile(`^(?:go run \./cmd/)?assent ([a-z]+)`)
	pathLike   = regexp.MustCompile(`^[\w./*-]+$`)
	around     = regexp.MustCompile(`^[*&\[\]]*([A-Za-z_][\w.]*)(?:\(.*\))?$`)
)

// check returns what is wrong with a span, or "".
func (tr *tree) check(span string) string {
	if match := makeTarget.FindStringSubmatch(span); match != nil {
		return complain(!tr.targets[match[1]], "the Makefile has no target %s", match[1])
	}
	if match := subcommand.FindStringSubmatch(span); match != nil {
		return complain(!tr.subcommands[match[1]], "assent has no subcommand %s", match[1])
	}
	if tr.isPath(span) {
		return complain(!tr.hasFile(strings.TrimPrefix(span, "./")), "no such file or folder")
	}
	match := around.FindStringSubmatch(span)
	if match == nil {
		return ""
	}
	name := match[1]
	first, _, dotted := strings.Cut(name, ".")
	switch {
	case dotted && unicode.IsLower(rune(first[0])) && !tr.owners[first]:
		return "" // another project's
	case !dotted && (name == strings.ToLower(name) || name == strings.ToUpper(name)):
		return "" // a word
	default:
		return complain(!tr.symbols[name], "no such symbol")
	}
}

func complain(wrong bool, format string, args ...any) string {
	if !wrong {
		return ""
	}
	return fmt.Sprintf(format, args...)
}

func (tr *tree) isPath(span string) bool {
	if !pathLike.MatchString(span) {
		return false
	}
	first, _, nested := strings.Cut(strings.TrimPrefix(span, "./"), "/")
	isTop := nested && (slices.Contains(topLevel, first) || strings.HasPrefix(first, "."))
	return isTop || path.Ext(span) == ".go" || path.Ext(span) == ".md"
}

// hasFile reports whether a file or folder ends in name, which may be a pattern.
func (tr *tree) hasFile(name string) bool {
	name = strings.TrimSuffix(name, "/")
	depth := strings.Count(name, "/") + 1
	for _, file := range tr.files {
		parts := strings.Split(file, "/")
		for end := depth; end <= len(parts); end++ {
			candidate := strings.Join(parts[end-depth:end], "/")
			if ok, err := path.Match(name, candidate); err == nil && ok {
				return true
			}
		}
	}
	return false
}

// README shows figures that `assent bench` measures, and a picture that is there.
func TestReadmeShowsFiguresThatExist(t *testing.T) {
	readme := string(read(t, "README.md"))
	rows := regexp.MustCompile(`(?m)^\| ([a-z]+\.[0-9a-z_.]+) \|`).FindAllStringSubmatch(readme, -1)
	require.NotEmpty(t, rows)
	for _, row := range rows {
		require.Contains(t, bench.Names(), row[1])
	}
	pictures := regexp.MustCompile(`!\[[^]]+\]\(([^)]+)\)`).FindAllStringSubmatch(readme, -1)
	require.NotEmpty(t, pictures)
	for _, picture := range pictures {
		require.NotEmpty(t, read(t, picture[1]))
	}
}

// The check itself: what it accepts, and what it finds.
func TestPaperCheck(t *testing.T) {
	present := files(t)
	tr := parseTree(t, present)
	for _, span := range []string{
		"make lint", "make fuzz FUZZTIME=1m", "assent version", "go run ./cmd/assent version",
		"cmd/assent", "cmd/", "./cmd/assent", ".ci/run", "house_test.go", "assent/main.go", ".ci/tools/*.mod",
		"mayImport", "capability.Need", "Capability", "*recorder", "recorder.Skip", "need(t, missing)", "tree.owners", "capability.recorder.skipped",
		"begun", "COMMIT", "R10", "context.WithoutCancel", "testing/synctest", "go test -bench .", "--seed", "git push", "{name, value}", "<-chan struct{}",
	} {
		require.Empty(t, tr.check(span), span)
	}
	for _, span := range []string{
		"make money", "assent dance", "go run ./cmd/assent dance",
		"wal/nowhere", "cmd/assent/house_tests.go", "nowhere.go", "NOWHERE.md", "wal/*.nothing",
		"capability.Nothing", "capability.Capability.Nothing", "Nothing.Nothing", "NothingAtAll", "*NothingError", "nothingAtAll", "recorder.Nothing(ctx)",
	} {
		require.NotEmpty(t, tr.check(span), span)
	}
	require.Equal(t, map[string]int{"a": 1, "b c": 1, "d": 5}, spans("x `a` and `b c`\n```go\n`not read`\n```\n`d` `a`\n"))
}
