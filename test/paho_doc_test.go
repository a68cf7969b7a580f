package mqtt_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// seedRows are the rows that docs/paho.md must have: what the seed can do.
var seedRows = []string{
	"`Client(client_id, clean_session, userdata, protocol, transport)`",
	"empty client id",
	"`reinitialise()`",
	"`max_inflight_messages_set` (20)",
	"`max_queued_messages_set` (0)",
	"`message_retry_set`",
	"`ws_set_options(path, headers or callable)`",
	"`tls_set(ca, cert, key, reqs, version, ciphers)`",
	"`tls_set_context`",
	"`tls_insecure_set`",
	"`enable_logger` / `disable_logger` / `on_log`",
	"`username_pw_set`",
	"`will_set(topic, payload, qos, retain)`",
	"`reconnect_delay_set(1, 120)`",
	"`connect(host, port, keepalive 60, bind_address)`",
	"`connect_async` + `loop_start`",
	"`connect_srv(domain)`",
	"`reconnect()`",
	"`disconnect()`",
	"`loop`, `loop_start/stop`, `loop_forever(retry_first_connection)`",
	"`loop_read/write/misc`, `socket()`, `want_write()`, `on_socket_*`",
	"`publish(topic, payload, qos, retain)`",
	"`MQTTMessageInfo` rc, mid, wait_for_publish, is_published",
	"ValueError: topic empty / wildcard, qos, payload > 268435455",
	"`subscribe` (topic, qos) / tuple / list",
	"`unsubscribe(topic or list)`",
	"`on_connect(flags session present, rc 0-5)`",
	"`on_disconnect(rc)`",
	"`on_message`, `message_callback_add/remove`",
	"`on_publish`, `on_subscribe(granted)`, `on_unsubscribe`",
	"`topic_matches_sub`, `connack_string`, `error_string`",
	"`publish.single`, `publish.multiple`",
	"`subscribe.simple(topics, msg_count, retained)`",
	"`subscribe.callback`",
	"known limit: session lost when the program restarts; QoS 2 may double; ids reused",
	"known limit: clean session republishes after reconnect (not compliant)",
}

// TestPahoTable checks that docs/paho.md has every row of the seed, and that
// each row names tests, all of which exist.
func TestPahoTable(t *testing.T) {
	t.Chdir("..") // the root of the module
	tests := testFunctions(t, ".")
	rows := map[string]bool{}
	named := regexp.MustCompile("`((?:[a-z0-9/]+\\.)?(?:Test|Example|Fuzz)\\w*)`")
	for _, cells := range tableRows(t, "docs/paho.md") {
		rows[cells[0]] = true
		names := named.FindAllStringSubmatch(cells[len(cells)-1], -1)
		if len(names) == 0 {
			t.Errorf("row %q names no test", cells[0])
		}
		for _, n := range names {
			if dir, _, nested := strings.Cut(n[1], "."); nested && !isDir(dir) {
				continue // of a nested module, which a download of this one leaves out
			}
			if !tests[n[1]] {
				t.Errorf("row %q: there is no test %s", cells[0], n[1])
			}
		}
	}
	for _, key := range seedRows {
		if !rows[key] {
			t.Errorf("docs/paho.md has no row %q", key)
		}
	}
	if len(rows) != len(seedRows) {
		t.Errorf("docs/paho.md has %d rows, the seed %d", len(rows), len(seedRows))
	}
}

func isDir(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.IsDir()
}

// tableRows returns the cells of the first table of a Markdown file, head and
// rule left out.
func tableRows(t *testing.T, file string) (rows [][]string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "|") {
			if len(rows) > 0 {
				break
			}
			continue
		}
		var cells []string
		for _, c := range strings.Split(strings.Trim(line, "|"), "|") {
			cells = append(cells, strings.TrimSpace(c))
		}
		rows = append(rows, cells)
	}
	if len(rows) < 3 {
		t.Fatalf("%s has no table", file)
	}
	return rows[2:]
}

// testFunctions returns the functions of every test file below root, as
// "Name" for those of the root package, which are in the root and in test/, and
// "directory.Name" for others.
func testFunctions(t *testing.T, root string) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != root && strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata":
			return filepath.SkipDir
		case !strings.HasSuffix(path, "_test.go"):
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		prefix := ""
		if dir := filepath.ToSlash(filepath.Dir(path)); dir != "." && dir != "test" {
			prefix = dir + "."
		}
		for _, decl := range file.Decls {
			if f, ok := decl.(*ast.FuncDecl); ok && f.Recv == nil {
				found[prefix+f.Name.Name] = true
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
