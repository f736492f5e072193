//! `pipeline completions SHELL`: what a shell needs to complete commands and options.

use clap::CommandFactory;
use clap_complete::Shell;

use super::{Args, CliError, exit, output};

#[derive(clap::Args, Debug)]
#[command(after_long_help = HOW)]
pub(crate) struct CompletionsArgs {
    /// Of this shell
    #[arg(value_enum)]
    shell: Shell,
}

const HOW: &str = "\
Where they go:
  bash        pipeline completions bash > ~/.local/share/bash-completion/completions/pipeline
  zsh         pipeline completions zsh > \"${fpath[1]}/_pipeline\"
  fish        pipeline completions fish > ~/.config/fish/completions/pipeline.fish
  elvish      pipeline completions elvish >> ~/.config/elvish/rc.elv
  powershell  pipeline completions powershell >> $PROFILE";

pub(crate) fn main(args: &CompletionsArgs) -> Result<u8, CliError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Args::command(), "pipeline", &mut script);
    output::line(String::from_utf8_lossy(&script).trim_end())?;
    Ok(exit::OK)
}
