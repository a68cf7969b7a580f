package mqtt_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/mqtttest/server"
	"github.com/millrace/mqtt/transport"
)

const secret = "hunter2-hunter2"

// shown returns how v shows the secret: by which verb, encoder or logger.
func shown(v any) (by []string) {
	forms := []string{secret, fmt.Sprintf("%x", secret), fmt.Sprintf("%X", secret), strings.Trim(fmt.Sprint([]byte(secret)), "[]"), url.QueryEscape(secret)}
	look := func(name, text string) {
		for _, f := range forms {
			if strings.Contains(text, f) {
				by = append(by, name)
				return
			}
		}
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x", "%X", "%T"} {
		look(verb, fmt.Sprintf(verb, v))
	}
	if b, err := json.Marshal(v); err == nil {
		look("JSON", string(b))
	}
	var text bytes.Buffer
	slog.New(slog.NewTextHandler(&text, nil)).Info("m", "v", v)
	slog.New(slog.NewJSONHandler(&text, nil)).Info("m", "v", v)
	look("slog", text.String())
	return by
}

// No value of the package shows a password, a header, the password of a proxy, or a user
// name in a URL, whatever prints it.
func TestSecretsAreNotShown(t *testing.T) {
	name := "token-" + secret
	header := http.Header{"Authorization": {"Bearer " + secret}}
	proxy := &url.URL{Scheme: "http", Host: "proxy", User: url.UserPassword("p", secret)}
	credentials := mqtt.Credentials{Username: &name, Password: []byte(secret), Header: header}
	dialer := transport.Dialer{Header: header, Proxy: proxy}
	u, err := transport.Parse("mqtts://" + name + ":" + secret + "@host")
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]any{
		"Credentials": credentials, "*Credentials": &credentials, "Dialer": dialer, "*Dialer": &dialer, "URL": *u, "*URL": u,
	}
	synctest.Test(t, func(t *testing.T) {
		network := &server.Network{}
		srv := server.Start(network, server.Config{})
		defer srv.Close()
		conn, err := mqtt.Connect(t.Context(), "mqtt://"+name+":"+secret+"@server", mqtt.WithCredentials(name, secret),
			mqtt.WithHeader(header), mqtt.WithServers("ws://another"), mqtt.WithDialer(network.Dial))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		sub := subscribe(t, conn, "t")
		values["Conn"], values["Subscription"] = conn, sub
		for _, e := range told[mqtt.Connected](conn) {
			values["Connected"] = e
		}
		for name, v := range values {
			if by := shown(v); len(by) > 0 {
				t.Errorf("%s shows the secret by %q", name, by)
			}
		}
	})
}

// A gateway may repeat the request in its refusal: the error does not.
func TestRefusalThatRepeatsOurHeaderShowsNoSecret(t *testing.T) {
	dial := func(context.Context, string, string) (net.Conn, error) {
		client, peer := net.Pipe()
		go func() { // ends with the peer's end
			defer peer.Close()
			request := make([]byte, 4096)
			n, err := peer.Read(request)
			if err != nil {
				return
			}
			body := "your request: " + string(request[:n])
			_, _ = io.WriteString(peer, fmt.Sprintf("HTTP/1.1 403 Forbidden\r\nX-Echo: %s\r\nContent-Length: %d\r\n\r\n%s", secret, len(body), body))
		}()
		return client, nil
	}
	_, err := mqtt.Connect(t.Context(), "ws://host", mqtt.WithDialer(dial),
		mqtt.WithHeader(http.Header{"Authorization": {"Bearer " + secret}}))
	if err == nil {
		t.Fatal("connected")
	}
	if by := shown(err); len(by) > 0 {
		t.Errorf("the error shows the secret by %q: %v", by, err)
	}
}
