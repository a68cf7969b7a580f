package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// side is a state of the repository, built as a test program.
type side struct {
	name    string
	program string
}

// names returns the names of sides.
func names(sides []side) (all []string) {
	for _, s := range sides {
		all = append(all, s.name)
	}
	return all
}

// buildSides builds the commits and, unless there are two, the files as they are.
func buildSides(commits []string, dir string) ([]side, error) {
	var sides []side
	for i, commit := range commits {
		s := side{commit, filepath.Join(dir, fmt.Sprint("commit", i, ".test"))}
		if err := buildCommit(commit, filepath.Join(dir, fmt.Sprint("tree", i)), s.program); err != nil {
			return nil, err
		}
		sides = append(sides, s)
	}
	if len(commits) < 2 {
		s := side{"the files as they are", filepath.Join(dir, "files.test")}
		if err := command(".", "go", "test", "-c", "-o", s.program, "."); err != nil {
			return nil, err
		}
		sides = append(sides, s)
	}
	return sides, nil
}

// buildCommit builds the test program of the root package at commit.
func buildCommit(commit, tree, program string) error {
	if err := command(".", "git", "worktree", "add", "--quiet", "--detach", tree, commit); err != nil {
		return err
	}
	err := command(tree, "go", "test", "-c", "-o", program, ".")
	if gone := command(".", "git", "worktree", "remove", "--force", tree); err == nil {
		err = gone
	}
	return err
}

// command runs a program in dir; its error has what the program printed.
func command(dir, name string, args ...string) error {
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", cmd, err, out)
	}
	return nil
}
