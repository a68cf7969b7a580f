package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// checkFloors returns where the table of floors in ARCHITECTURE.md differs from
// tools/floors/floors.txt: each row must have the name of the floor that stands there,
// in its order, and Go files of it. A repository without that table has no findings.
func checkFloors(root string) ([]string, error) {
	table, err := os.ReadFile(filepath.Join(root, "tools", "floors", "floors.txt"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(filepath.Join(root, "ARCHITECTURE.md"))
	if err != nil {
		return nil, err
	}
	floors, rows := floorFiles(string(table)), floorRows(string(text))
	if len(floors) != len(rows) {
		return []string{fmt.Sprintf("ARCHITECTURE.md: %d floors, in floors.txt %d", len(rows), len(floors))}, nil
	}
	var findings []string
	for i, row := range rows {
		if row[0] != floors[i][0] {
			findings = append(findings, fmt.Sprintf("ARCHITECTURE.md: floor %s, in floors.txt %s", row[0], floors[i][0]))
		}
		for _, file := range row[1:] {
			if !slices.Contains(floors[i], file) {
				findings = append(findings, fmt.Sprintf("ARCHITECTURE.md: %s is not on floor %s", file, floors[i][0]))
			}
		}
	}
	return findings, nil
}

// floorFiles returns the name and the files of each floor of floors.txt, whose lines
// go on with white space.
func floorFiles(table string) (floors [][]string) {
	onFloor := false
	for line := range strings.Lines(table) {
		words := strings.Fields(line)
		switch {
		case len(words) == 0:
			onFloor = false
		case words[0] == "floor" && len(words) > 1:
			onFloor = true
			floors = append(floors, append([]string{strings.TrimSuffix(words[1], ":")}, words[2:]...))
		case onFloor && strings.TrimLeft(line, " \t") != line:
			last := len(floors) - 1
			floors[last] = append(floors[last], words...)
		default:
			onFloor = false
		}
	}
	return floors
}

// floorRows returns the name and the Go files of each row of the table under the
// heading "Floors".
func floorRows(text string) (rows [][]string) {
	_, section, _ := strings.Cut(text, "\n## Floors\n")
	section, _, _ = strings.Cut(section, "\n## ")
	goFile := regexp.MustCompile("`([a-z0-9_]+\\.go)`")
	for line := range strings.Lines(section) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if !strings.HasPrefix(line, "|") || len(cells) < 2 {
			continue
		}
		row := []string{strings.TrimSpace(cells[0])}
		for _, f := range goFile.FindAllStringSubmatch(cells[len(cells)-1], -1) {
			row = append(row, f[1])
		}
		rows = append(rows, row)
	}
	return rows[min(2, len(rows)):] // without head and rule
}
