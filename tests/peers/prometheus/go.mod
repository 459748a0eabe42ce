// Builds promtool for the tests: its own release has a replacement, with which `go install` refuses it.
module ai-infra.dev/tests/peers/prometheus

go 1.23.0

require github.com/prometheus/prometheus v0.305.0

replace github.com/fsnotify/fsnotify v1.8.0 => github.com/fsnotify/fsnotify v1.7.0
