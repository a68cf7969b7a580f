package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLinks(t *testing.T) {
	tests := []struct {
		name, text string
		want       int
	}{
		{"exists", "see [a](other.md) and [b](sub/x.txt#top)", 0},
		{"missing", "see [a](gone.md)", 1},
		{"from the root", "see [a](/other.md)", 0},
		{"other site", "see [a](https://example.org/gone.md)", 0},
		{"anchor", "## A part, of it\nsee [a](#a-part-of-it)", 0},
		{"missing anchor", "## A part\nsee [a](#part)", 1},
		{"anchor elsewhere", "see [a](heads.md#a-b)", 0},
		{"missing anchor elsewhere", "see [a](heads.md#b)", 1},
		{"in code", "a `[x](gone.md)` b", 0},
		{"in a fence", "```\n[x](gone.md)\n```\n", 0},
		{"two on a line", "[a](gone.md) [b](gone2.md)", 2},
		{"with title", "[a](other.md \"the other\")", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, filepath.Join(dir, "other.md"), "")
			write(t, filepath.Join(dir, "sub", "x.txt"), "")
			write(t, filepath.Join(dir, "heads.md"), "# A `b`\n")
			write(t, filepath.Join(dir, "file.md"), tt.text)
			got, err := checkLinks(dir, "file.md")
			if err != nil || len(got) != tt.want {
				t.Errorf("findings %q, %v; want %d", got, err, tt.want)
			}
		})
	}
}

func TestWidth(t *testing.T) {
	wide := strings.Repeat("word ", 21)
	tests := []struct {
		name, text string
		want       int
	}{
		{"fits", strings.Repeat("x", 98) + " y", 0},
		{"too wide", wide, 1},
		{"characters, not bytes", strings.Repeat("µ", 98) + " µ", 0},
		{"row of a table", "| " + wide + " |", 0},
		{"in a fence", "```sh\n" + wide + "\n```\n", 1},
		{"one word", strings.Repeat("x", 200), 0},
		{"one word of a list", "- " + strings.Repeat("x", 200), 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, filepath.Join(dir, "file.md"), tt.text)
			got, err := checkWidth(dir, "file.md")
			if err != nil || len(got) != tt.want {
				t.Errorf("findings %q, %v; want %d", got, err, tt.want)
			}
		})
	}
}

func TestFiles(t *testing.T) {
	tests := []struct {
		name, text string
		want       int
	}{
		{"exists", "`here.go` and sub/there.go", 0},
		{"missing", "`gone.go`", 1},
		{"in a fence", "```mermaid\na[gone.go]\n```\n", 1},
		{"several by a star", "`h*.go`", 0},
		{"none by a star", "`g*.go`", 1},
		{"a site", "see pkg.go.dev, crypto/x.google.org", 0},
		{"beside the document", "`there.go`", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, filepath.Join(dir, "here.go"), "")
			write(t, filepath.Join(dir, "sub", "there.go"), "")
			write(t, filepath.Join(dir, "sub", "file.md"), tt.text)
			got, err := checkFiles(dir, "sub/file.md")
			if err != nil || len(got) != tt.want {
				t.Errorf("findings %q, %v; want %d", got, err, tt.want)
			}
		})
	}
}

func TestFloors(t *testing.T) {
	const table = "# rooms\nfloor top: a.go b.go\nfloor bottom: c.go\n\td.go\n\nlimit files 3\n"
	const head = "# A\n\n## Floors\n\n| floor | files |\n|---|---|\n"
	tests := []struct {
		name, rows string
		want       int
	}{
		{"agrees", "| top | `a.go` |\n| bottom | `c.go`, `d.go`, `internal/x` |\n\n## B\n\n| other | `z.go` |\n", 0},
		{"a floor is missing", "| top | `a.go` |\n", 1},
		{"another order", "| bottom | `c.go` |\n| top | `a.go` |\n", 4},
		{"a file of another floor", "| top | `a.go`, `d.go` |\n| bottom | `c.go` |\n", 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, filepath.Join(dir, "tools", "floors", "floors.txt"), table)
			write(t, filepath.Join(dir, "ARCHITECTURE.md"), head+tt.rows)
			got, err := checkFloors(dir)
			if err != nil || len(got) != tt.want {
				t.Errorf("findings %q, %v; want %d", got, err, tt.want)
			}
		})
	}
	if got, err := checkFloors(t.TempDir()); len(got) > 0 || err != nil {
		t.Errorf("without a table: %q, %v", got, err)
	}
}

func TestSnippets(t *testing.T) {
	const good = "```go\npackage main\n\nfunc main() {}\n```\n"
	const bad = "```go\npackage main\n\nfunc main() { undefined() }\n```\n"
	tests := []struct {
		name, text         string
		compiled, findings int
	}{
		{"good", good, 1, 0},
		{"bad", "text\n" + bad, 1, 1},
		{"fragment", "```go\nx := 1\n```\n", 0, 0},
		{"other language", "```sh\npackage main\n```\n", 0, 0},
		{"two", good + bad, 2, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("GOWORK", "off")
			dir := t.TempDir()
			write(t, filepath.Join(dir, "go.mod"), "module m\n\ngo 1.26\n")
			write(t, filepath.Join(dir, "README.md"), tt.text)
			compiled, findings, err := compileSnippets(dir, "README.md")
			if err != nil || compiled != tt.compiled || len(findings) != tt.findings {
				t.Errorf("compiled %d, findings %q, %v", compiled, findings, err)
			}
			if left, _ := filepath.Glob(filepath.Join(dir, "_mdcheck*")); len(left) > 0 {
				t.Errorf("left behind: %s", strings.Join(left, " "))
			}
		})
	}
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
