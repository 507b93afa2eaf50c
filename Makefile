# The targets for people. Each one installs the Debian packages that it needs, and runs a task of xtask.

.PHONY: demo test bench init install package lint

demo:    ; tools/packages demo && cargo xtask demo
test:    ; tools/packages test && cargo xtask test
bench:   ; tools/packages bench && cargo xtask bench
init:    ; tools/packages build && cargo xtask init
lint:    ; tools/packages build lint && cargo xtask lint
install: ; tools/packages build && cargo xtask install
package: ; tools/packages build package && cargo xtask package
