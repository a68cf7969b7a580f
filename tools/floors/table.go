package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// table is floors.txt: the floors from top to bottom, and the limits.
type table struct {
	floors []floor
	floor  map[string]int      // of a file: 0 is the highest
	limits map[string]int      // of each figure
	only   map[string][]string // the files in which alone a declaration is named
	pure   map[string][]string // packages that a file must not import
	walls  map[string][]string // all that the package in a directory may import
	test   []string            // files that are there for tests: what they give is no hook
}

// floor is a name and its files.
type floor struct {
	name  string
	files []string
}

// parseTable reads lines of the forms
//
//	floor NAME: FILE...
//	limit FIGURE NUMBER
//	only DECLARATION: FILE...
//	pure FILE: PACKAGE...
//	wall DIRECTORY: PACKAGE...
//	test FILE...
//
// A line that begins with white space goes on with the one before; # begins a comment.
func parseTable(text string) (*table, error) {
	t := &table{floor: map[string]int{}, limits: map[string]int{}, only: map[string][]string{}, pure: map[string][]string{}, walls: map[string][]string{}}
	for _, line := range joinLines(text) {
		words := strings.Fields(line)
		if words[0] == "test" {
			t.test = append(t.test, words[1:]...)
			continue
		}
		if len(words) < 3 && words[0] != "wall" || len(words) < 2 {
			return nil, fmt.Errorf("%q has too few words", line)
		}
		name, rest := strings.TrimSuffix(words[1], ":"), words[2:]
		switch words[0] {
		case "floor":
			for _, f := range rest {
				if _, twice := t.floor[f]; twice {
					return nil, fmt.Errorf("%s stands on two floors", f)
				}
				t.floor[f] = len(t.floors)
			}
			t.floors = append(t.floors, floor{name, rest})
		case "limit":
			n, err := strconv.Atoi(rest[0])
			if err != nil {
				return nil, fmt.Errorf("%q: %w", line, err)
			}
			t.limits[name] = n
		case "only":
			t.only[name] = rest
		case "pure":
			t.pure[name] = rest
		case "wall":
			t.walls[name] = rest
		default:
			return nil, fmt.Errorf("%q is neither floor, limit, only, pure, wall nor test", line)
		}
	}
	return t, nil
}

// joinLines returns the lines of text without comments, those that go on joined.
func joinLines(text string) (lines []string) {
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		if strings.TrimSpace(line) == "" {
			continue
		}
		if n := len(lines); n > 0 && strings.TrimLeft(line, " \t") != line {
			lines[n-1] += line
			continue
		}
		lines = append(lines, line)
	}
	return lines
}

// covers returns an error for a file without a floor, and for one that is gone.
func (t *table) covers(files []string) error {
	errs := []error{t.floorless(files)}
	for f := range t.floor {
		if !slices.Contains(files, f) {
			errs = append(errs, fmt.Errorf("%s is not in the package any more: take it out", f))
		}
	}
	return errors.Join(errs...)
}

// floorless returns an error for a file without a floor.
func (t *table) floorless(files []string) error {
	var errs []error
	for _, f := range files {
		if _, ok := t.floor[f]; !ok {
			errs = append(errs, fmt.Errorf("%s has no floor: put it into the line of the lowest one above all that it uses", f))
		}
	}
	return errors.Join(errs...)
}
