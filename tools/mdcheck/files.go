package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// path is what may be the name of a file, in text, in code or in a picture.
var path = regexp.MustCompile(`[\w./*-]+`)

// checkFiles returns the names of Go files in one Markdown file that are neither below
// the root nor beside the file. A name may have a "*".
func checkFiles(root, file string) ([]string, error) {
	text, err := os.ReadFile(filepath.Join(root, file))
	if err != nil {
		return nil, err
	}
	var findings []string
	for i, line := range strings.Split(string(text), "\n") {
		for _, name := range path.FindAllString(line, -1) {
			name = strings.TrimRight(name, ".")
			if !strings.HasSuffix(name, ".go") {
				continue
			}
			if !matches(filepath.Join(root, name)) && !matches(filepath.Join(root, filepath.Dir(file), name)) {
				findings = append(findings, fmt.Sprintf("%s:%d: there is no file %s", file, i+1, name))
			}
		}
	}
	return findings, nil
}

func matches(pattern string) bool {
	found, err := filepath.Glob(pattern)
	return err == nil && len(found) > 0
}
