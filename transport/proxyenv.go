// Proxies from the environment, used only when an option asks for them.

package transport

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"strings"
)

// environmentProxy asks net/http first, which knows HTTP_PROXY, HTTPS_PROXY
// and NO_PROXY; ALL_PROXY, where SOCKS proxies are commonly named, it does not.
func environmentProxy(u *URL) (*url.URL, error) {
	chosen, err := http.ProxyFromEnvironment(asHTTP(u))
	if err != nil {
		// Its text is not repeated: it may quote the variable and its password.
		return nil, &URLError{"url", "net/http refuses HTTP_PROXY or HTTPS_PROXY (malformed, or in a CGI program)"}
	}
	if chosen != nil {
		return chosen, nil
	}
	return allProxy(u, firstEnv("ALL_PROXY", "all_proxy"), firstEnv("NO_PROXY", "no_proxy"))
}

// asHTTP is the request a browser would make to reach u.
func asHTTP(u *URL) *http.Request {
	scheme := "http"
	if u.TLS() {
		scheme = "https"
	}
	return &http.Request{URL: &url.URL{Scheme: scheme, Host: u.Address()}}
}

func firstEnv(names ...string) string {
	for _, name := range names {
		if value := os.Getenv(name); value != "" {
			return value
		}
	}
	return ""
}

func allProxy(u *URL, all, exempt string) (*url.URL, error) {
	if all == "" || isLoopback(u.Host) || exempted(exempt, u) {
		return nil, nil
	}
	if !strings.Contains(all, "://") {
		all = "http://" + all // as net/http reads HTTP_PROXY
	}
	chosen, err := url.Parse(all)
	if err != nil {
		return nil, &URLError{"url", "ALL_PROXY is malformed"}
	}
	return chosen, nil
}

func isLoopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return strings.EqualFold(host, "localhost") || err == nil && addr.IsLoopback()
}

// exempted applies a NO_PROXY list with net/http's rules: "*", addresses,
// CIDR ranges, and domains that include their subdomains (with a leading dot:
// only those), each with a port or without.
func exempted(list string, u *URL) bool {
	for entry := range strings.SplitSeq(list, ",") {
		entry = strings.ToLower(strings.TrimSpace(entry))
		if entry == "*" || entry != "" && matchesExemption(entry, u) {
			return true
		}
	}
	return false
}

func matchesExemption(entry string, u *URL) bool {
	host := strings.ToLower(strings.TrimSuffix(u.Host, "."))
	addr, addrErr := netip.ParseAddr(host)
	if network, err := netip.ParsePrefix(entry); err == nil {
		return addrErr == nil && network.Contains(addr.Unmap())
	}
	if name, port, err := net.SplitHostPort(entry); err == nil {
		if port != strconv.Itoa(int(u.Port)) {
			return false
		}
		entry = name
	}
	if want, err := netip.ParseAddr(strings.Trim(entry, "[]")); err == nil {
		return addrErr == nil && want.Unmap() == addr.Unmap()
	}
	entry = strings.TrimPrefix(entry, "*")
	if suffix, ok := strings.CutPrefix(entry, "."); ok {
		return strings.HasSuffix(host, "."+suffix)
	}
	return host == entry || strings.HasSuffix(host, "."+entry)
}
