//go:build tools

// Keeps etcd in go.mod: the package is its own main.
package tools

import _ "go.etcd.io/etcd/server/v3"
