"""`edgepipe completion`: the script that teaches a shell to complete."""

from __future__ import annotations

import click

WHERE = {
    "bash": "edgepipe completion bash > ~/.local/share/bash-completion/completions/edgepipe",
    "zsh": "edgepipe completion zsh > ~/.zfunc/_edgepipe  (with ~/.zfunc in your fpath)",
    "fish": "edgepipe completion fish > ~/.config/fish/completions/edgepipe.fish",
}


@click.command(epilog="\b\n" + "\n".join(WHERE.values()))
@click.argument("shell", type=click.Choice(list(WHERE)))
def completion(shell: str) -> None:
    """Print the completion script for SHELL."""
    from click.shell_completion import get_completion_class

    from edgepipe.cli.main import edgepipe

    found = get_completion_class(shell)
    assert found is not None
    # click's own constructor asks an installed bash for its version only when it completes.
    click.echo(found(edgepipe, {}, "edgepipe", "_EDGEPIPE_COMPLETE").source())
