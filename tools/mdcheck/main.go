// Command mdcheck keeps the Markdown of the repository true: it compiles the
// Go snippets of README.md that are whole programs, and checks in every tracked
// *.md file that relative links lead to a file or a heading that exists, that the
// Go files it names exist, and that no line is wider than 100 characters. The table of
// floors in ARCHITECTURE.md must agree with that of tools/floors. Run it at the
// repository's root; it exits 1 if it found a fault.
package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
)

func main() {
	os.Exit(run(".", os.Stdout, os.Stderr))
}

func run(root string, stdout, stderr io.Writer) int {
	files, err := trackedMarkdown(root)
	if err != nil {
		fmt.Fprintln(stderr, "mdcheck:", err)
		return 2
	}
	var findings []string
	for _, file := range files {
		for _, check := range []func(root, file string) ([]string, error){checkLinks, checkFiles, checkWidth} {
			found, err := check(root, file)
			if err != nil {
				fmt.Fprintln(stderr, "mdcheck:", err)
				return 2
			}
			findings = append(findings, found...)
		}
	}
	found, err := checkFloors(root)
	if err != nil {
		fmt.Fprintln(stderr, "mdcheck:", err)
		return 2
	}
	findings = append(findings, found...)
	compiled, found, err := compileSnippets(root, "README.md")
	if err != nil {
		fmt.Fprintln(stderr, "mdcheck:", err)
		return 2
	}
	findings = append(findings, found...)
	for _, f := range findings {
		fmt.Fprintln(stdout, f)
	}
	fmt.Fprintf(stdout, "mdcheck: %d files, %d snippets compiled, %d findings\n", len(files), compiled, len(findings))
	return min(len(findings), 1)
}

func trackedMarkdown(root string) ([]string, error) {
	cmd := exec.Command("git", "ls-files", "-z", "*.md")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("git ls-files: %w", err)
	}
	return strings.FieldsFunc(string(out), func(r rune) bool { return r == 0 }), nil
}
