use std::process::ExitCode;

fn main() -> ExitCode {
    imactl::main()
}
