package mqtt

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"

	"github.com/millrace/mqtt/codec"
)

// enumerations are the exported types with named values, each with its last one.
var enumerations = map[string]struct {
	last  uint8
	value func(uint8) fmt.Stringer
}{
	"Decision":     {uint8(DecideStop), func(n uint8) fmt.Stringer { return Decision(n) }},
	"FirstConnect": {uint8(FirstConnectBackground), func(n uint8) fmt.Stringer { return FirstConnect(n) }},
	"LostPolicy":   {uint8(LostFail), func(n uint8) fmt.Stringer { return LostPolicy(n) }},
	"QueuePolicy":  {uint8(QueueDropNewest), func(n uint8) fmt.Stringer { return QueuePolicy(n) }},
	"SlowPolicy":   {uint8(SlowBlock), func(n uint8) fmt.Stringer { return SlowPolicy(n) }},
	"Stage":        {uint8(StageDone), func(n uint8) fmt.Stringer { return Stage(n) }},
	"State":        {uint8(StateClosed), func(n uint8) fmt.Stringer { return State(n) }},
}

// Every value has a name of its own, and one that does not exist shows its number.
func TestEveryEnumerationNamesItsValues(t *testing.T) {
	for name, e := range enumerations {
		seen := map[string]bool{}
		for n := range 256 {
			s := e.value(uint8(n)).String()
			if s == "" || seen[s] {
				t.Errorf("%s(%d) is %q, which is empty or another's", name, n, s)
			}
			seen[s] = true
			if numbered := strings.Contains(s, fmt.Sprint(n)); numbered != (n > int(e.last)) {
				t.Errorf("%s(%d) is %q", name, n, s)
			}
		}
	}
}

// QoS is a number, and prints as one; all other exported small integers are in the list.
func TestEveryEnumerationIsListed(t *testing.T) {
	files, _ := filepath.Glob("*.go")
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok || !spec.Name.IsExported() {
				return true
			}
			if id, ok := spec.Type.(*ast.Ident); ok && strings.Contains("uint8 byte int uint16 uint32", id.Name) {
				if _, ok := enumerations[spec.Name.Name]; !ok && spec.Name.Name != "QoS" {
					t.Errorf("%s is not in the list", spec.Name.Name)
				}
			}
			return true
		})
	}
}

// The reason codes of this package are those of codec, by the standard's names.
func TestReasonCodesHaveTheirNames(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "reasoncode.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	shared := map[string]bool{"NormalDisconnection": true, "GrantedQoS0": true, // String says Success
		"DisconnectWithWill": true} // and here "with Will Message"
	n := 0
	ast.Inspect(file, func(node ast.Node) bool {
		spec, ok := node.(*ast.ValueSpec)
		if !ok {
			return true
		}
		n++
		var code byte
		fmt.Sscanf(spec.Values[0].(*ast.BasicLit).Value, "0x%x", &code)
		name := strings.TrimPrefix(spec.Names[0].Name, "Reason")
		plain := strings.NewReplacer(" ", "", "-", "").Replace(codec.ReasonCode(code).String())
		if !strings.EqualFold(plain, name) && !shared[name] {
			t.Errorf("Reason%s is 0x%02X, which is %q", name, code, codec.ReasonCode(code))
		}
		return true
	})
	if n < 40 {
		t.Errorf("%d codes", n)
	}
}

// The packet types of this package are those of codec, by the standard's names.
func TestPacketTypesHaveTheirNames(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "packettype.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var known codec.Type
	ast.Inspect(file, func(node ast.Node) bool {
		spec, ok := node.(*ast.ValueSpec)
		if !ok {
			return true
		}
		known++
		var n byte
		fmt.Sscan(spec.Values[0].(*ast.BasicLit).Value, &n)
		name := strings.TrimPrefix(spec.Names[0].Name, "Packet")
		if standard := codec.Type(n).String(); codec.Type(n) != known || !strings.EqualFold(standard, name) {
			t.Errorf("Packet%s is %d, which is %q", name, n, standard)
		}
		return true
	})
	if known != codec.AUTH {
		t.Errorf("%d types, the last one is %d", known, codec.AUTH)
	}
}
