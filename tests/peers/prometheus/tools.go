//go:build tools

// Package prometheus names the program that `make peers` builds.
package prometheus

import _ "github.com/prometheus/prometheus/cmd/promtool"
