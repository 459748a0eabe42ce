//go:build tools

// Package vault names the program that `make peers` builds.
package vault

import _ "github.com/hashicorp/vault"
