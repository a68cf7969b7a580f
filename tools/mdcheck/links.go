package main

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"unicode"
)

// checkLinks returns the relative links of one Markdown file that lead nowhere.
// Links inside code are text, not links.
func checkLinks(root, file string) ([]string, error) {
	text, err := os.ReadFile(filepath.Join(root, file))
	if err != nil {
		return nil, err
	}
	// [text](target "title") and ![alt](target); the target ends at a blank or
	// at the closing bracket.
	link := regexp.MustCompile(`\]\(([^)\s]+)[^)]*\)`)
	code := regexp.MustCompile("`[^`]*`")
	var findings []string
	fenced := false
	for i, line := range strings.Split(string(text), "\n") {
		if strings.HasPrefix(strings.TrimSpace(line), "```") {
			fenced = !fenced
			continue
		}
		if fenced {
			continue
		}
		for _, m := range link.FindAllStringSubmatch(code.ReplaceAllString(line, "``"), -1) {
			if !targetExists(root, file, m[1]) {
				findings = append(findings, fmt.Sprintf("%s:%d: link leads nowhere: %s", file, i+1, m[1]))
			}
		}
	}
	return findings, nil
}

// targetExists is true for links it does not judge: other sites, and parts of files
// that are not Markdown.
func targetExists(root, file, target string) bool {
	u, err := url.Parse(strings.Trim(target, "<>"))
	if err != nil {
		return false
	}
	if u.Scheme != "" || u.Host != "" {
		return true
	}
	path := filepath.Join(root, filepath.Dir(file), filepath.FromSlash(u.Path))
	if u.Path == "" {
		path = filepath.Join(root, file)
	}
	if strings.HasPrefix(u.Path, "/") {
		path = filepath.Join(root, filepath.FromSlash(u.Path))
	}
	if _, err := os.Stat(path); err != nil {
		return false
	}
	return u.Fragment == "" || filepath.Ext(path) != ".md" || hasHeading(path, u.Fragment)
}

// hasHeading reports whether the Markdown file at path has a heading with that anchor.
func hasHeading(path, anchor string) bool {
	text, err := os.ReadFile(path)
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "#") && anchorOf(strings.TrimLeft(line, "#")) == anchor {
			return true
		}
	}
	return false
}

// anchorOf is the anchor that GitHub gives a heading: its letters, digits and hyphens
// in lower case, with hyphens for blanks.
func anchorOf(heading string) string {
	keep := func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
			return unicode.ToLower(r)
		}
		return -1
	}
	return strings.Map(keep, strings.TrimSpace(heading))
}
