package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// snippet is one fenced Go block and the line its fence stands on.
type snippet struct {
	line int
	text string
}

// compileSnippets builds each whole program ("package main") of the file inside
// the root module, so that it sees the code of this checkout. It returns how
// many it built. A file that does not exist has none.
func compileSnippets(root, file string) (int, []string, error) {
	text, err := os.ReadFile(filepath.Join(root, file))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil, nil
	}
	if err != nil {
		return 0, nil, err
	}
	// The name begins with "_", so that ./... patterns pass it by.
	dir, err := os.MkdirTemp(root, "_mdcheck")
	if err != nil {
		return 0, nil, err
	}
	defer os.RemoveAll(dir)

	var findings []string
	compiled := 0
	for _, s := range goSnippets(string(text)) {
		if !strings.HasPrefix(s.text, "package main") {
			continue
		}
		compiled++
		if out, err := compile(dir, s.text); err != nil {
			findings = append(findings, fmt.Sprintf("%s:%d: snippet does not compile: %v\n%s", file, s.line, err, out))
		}
	}
	return compiled, findings, nil
}

func compile(dir, text string) (string, error) {
	name := filepath.Join(dir, "main.go")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		return "", err
	}
	cmd := exec.Command("go", "vet", "main.go")
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func goSnippets(text string) []snippet {
	var found []snippet
	var block []string
	start, inside, isGo := 0, false, false
	for i, line := range strings.Split(text, "\n") {
		switch trimmed := strings.TrimSpace(line); {
		case !inside && strings.HasPrefix(trimmed, "```"):
			inside, isGo = true, trimmed == "```go"
			start, block = i+1, nil
		case inside && trimmed == "```":
			if isGo {
				found = append(found, snippet{start, strings.Join(block, "\n") + "\n"})
			}
			inside = false
		case inside:
			block = append(block, line)
		}
	}
	return found
}
