package mqtt

import (
	"fmt"
	"testing"

	"github.com/millrace/mqtt/transport"
)

// User name and password come from one place, or one user would be given the password of
// another.
func TestUserNameAndPasswordComeFromOnePlace(t *testing.T) {
	bob := "bob"
	url := func(text string) *transport.URL {
		u, err := transport.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	alice, anonymous := url("mqtt://alice:secret@host"), url("mqtt://host")
	for i, tt := range []struct {
		given, option Credentials
		urls          []*transport.URL
		want          string
	}{
		{Credentials{}, Credentials{}, []*transport.URL{anonymous}, "no name, no password"},
		{Credentials{}, Credentials{}, []*transport.URL{alice}, "alice, secret"},
		{Credentials{}, Credentials{}, []*transport.URL{anonymous, alice}, "alice, secret"},
		{Credentials{}, Credentials{}, []*transport.URL{url("mqtt://carol@host"), alice}, "carol, no password"},
		{Credentials{}, Credentials{Username: &bob}, []*transport.URL{alice}, "bob, no password"},
		{Credentials{}, Credentials{Username: &bob, Password: []byte("b")}, []*transport.URL{alice}, "bob, b"},
		{Credentials{Username: &bob}, Credentials{Username: &bob, Password: []byte("b")}, []*transport.URL{alice}, "bob, no password"},
		{Credentials{Password: []byte("token")}, Credentials{Username: &bob}, []*transport.URL{alice}, "no name, token"},
		{Credentials{URL: "mqtt://other"}, Credentials{Username: &bob, Password: []byte("b")}, []*transport.URL{anonymous}, "bob, b"},
	} {
		got := tt.given.withLogin(tt.option, tt.urls...)
		name, password := "no name", "no password"
		if got.Username != nil {
			name = *got.Username
		}
		if got.Password != nil {
			password = string(got.Password)
		}
		if is := fmt.Sprint(name, ", ", password); is != tt.want {
			t.Errorf("%d: %s, want %s", i, is, tt.want)
		}
	}
}
