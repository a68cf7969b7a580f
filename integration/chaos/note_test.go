package chaos

import (
	"reflect"
	"testing"
)

// TestNotesFollow reads the notes of processes that come and die in the middle
// of a line.
func TestNotesFollow(t *testing.T) {
	dir := t.TempDir()
	f := notes{dir: dir, kind: "received", incarnation: 1}
	follow := func(latest int, want ...sight) {
		t.Helper()
		if err := f.follow(latest); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(f.sights, want) {
			t.Errorf("%v, want %v", f.sights, want)
		}
	}
	follow(1) // not begun
	first, err := createNote(dir, "received", 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	first.write(7)
	follow(1, sight{7, 1})
	first.write(8)
	if _, err := first.WriteString("90"); err != nil {
		t.Fatal(err)
	}
	follow(1, sight{7, 1}, sight{8, 1})
	third, err := createNote(dir, "received", 0, 3) // the second was killed before
	if err != nil {
		t.Fatal(err)
	}
	defer third.Close()
	third.write(endMark)
	follow(3, sight{7, 1}, sight{8, 1}, sight{endMark, 3})
}
