// Command doccheck lists exported identifiers without a doc comment, and public
// packages without a doc.go, in the module directories given as arguments
// (default "."). It exits 1 if it found any.
//
// Skipped: package main, internal packages, tests, testdata, directories whose
// name begins with "." or "_", and nested modules, which are named as arguments
// of their own.
package main

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

func run(roots []string, stdout, stderr io.Writer) int {
	if len(roots) == 0 {
		roots = []string{"."}
	}
	var findings []string
	for _, root := range roots {
		found, err := checkModule(root)
		if err != nil {
			fmt.Fprintln(stderr, "doccheck:", err)
			return 2
		}
		findings = append(findings, found...)
	}
	for _, f := range findings {
		fmt.Fprintln(stdout, f)
	}
	if len(findings) > 0 {
		fmt.Fprintf(stderr, "doccheck: %d findings\n", len(findings))
		return 1
	}
	return 0
}

// checkModule returns the findings of every public package below root.
func checkModule(root string) ([]string, error) {
	var findings []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		if path != root && skipDir(path, d.Name()) {
			return fs.SkipDir
		}
		found, err := checkDir(path)
		findings = append(findings, found...)
		return err
	})
	sort.Strings(findings)
	return findings, err
}

func skipDir(path, name string) bool {
	if strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") {
		return true
	}
	if name == "internal" || name == "testdata" || name == "vendor" {
		return true
	}
	_, err := os.Stat(filepath.Join(path, "go.mod"))
	return err == nil
}
