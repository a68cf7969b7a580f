package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"
)

// maxWidth is how many characters a line of Markdown may have.
const maxWidth = 100

// checkWidth returns the lines of one Markdown file that are too wide. The rows of a
// table cannot be wrapped, nor can a line of one word, as a long link is.
func checkWidth(root, file string) ([]string, error) {
	text, err := os.ReadFile(filepath.Join(root, file))
	if err != nil {
		return nil, err
	}
	var findings []string
	for i, line := range strings.Split(string(text), "\n") {
		width := utf8.RuneCountInString(line)
		if width > maxWidth && !strings.HasPrefix(strings.TrimSpace(line), "|") && !oneWord(line) {
			findings = append(findings, fmt.Sprintf("%s:%d: %d characters, wrap at %d", file, i+1, width, maxWidth))
		}
	}
	return findings, nil
}

// oneWord reports whether the line, without the mark of a list, has no blank.
func oneWord(line string) bool {
	words := strings.Fields(line)
	return len(words) == 1 || len(words) == 2 && (words[0] == "-" || strings.HasSuffix(words[0], "."))
}
