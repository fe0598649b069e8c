//! The operator's tool.

fn main() -> std::process::ExitCode {
    clusterd::ctl::main()
}
