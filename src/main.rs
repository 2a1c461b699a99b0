//! The `llmdev` program: everything is in the library, so that tests reach it.

fn main() -> std::process::ExitCode {
    // In a node, where it has to be quick, and where nobody types.
    if std::env::args_os()
        .nth(1)
        .is_some_and(|first| first == "agent")
    {
        return llmdev::agent::main();
    }
    llmdev::cli::main()
}
