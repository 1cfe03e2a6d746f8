"""The commands for volumes, for what ocim keeps as a whole, and for ocim itself."""

from __future__ import annotations

from ocirt.manager.cli.grammar import Command, Flag
from ocirt.manager.cli.table_containers import FILTER, FORCE, FORMAT, LIST_FORMAT

COMMANDS: tuple[Command, ...] = (
    Command("volume create", "[NAME]", "volumes:create", "Make a volume",
            Flag("driver", "Only local.", "DRIVER", letters="d", default="local"),
            Flag("label", "KEY=VALUE, kept with it.", "LABEL", many=True),
            Flag("opt", "type=, device=, o= of mount(8).", "OPTION", letters="o", many=True)),
    Command("volume ls, volume list", "", "volumes:listed", "List volumes", FILTER, LIST_FORMAT,
            Flag("quiet", "Only names.", letters="q"),
            text="Filters: name, label, dangling, driver. Fields: .Name .Driver .Mountpoint .Scope .Labels."),
    Command("volume inspect", "VOLUME...", "inspect:volume", "All about volumes, as JSON",
            Flag("format", "A template, or json.", "FORMAT", letters="f"), completes="volume"),
    Command("volume rm, volume remove", "VOLUME...", "volumes:remove", "Remove volumes",
            Flag("force", "None of that name is no error.", letters="f"), completes="volume"),
    Command("volume prune", "", "volumes:prune", "Remove volumes that no container uses",
            Flag("all", "Also those with a name.", letters="a"), FORCE,
            Flag("filter", "Only those: label=KEY[=VALUE].", "FILTER", many=True)),
    Command("system df", "", "system:df", "How much room everything takes", LIST_FORMAT,
            Flag("verbose", "One by one.", letters="v")),
    Command("system prune", "", "system:prune", "Remove what nothing uses",
            Flag("all", "Also images that have a name but no container.", letters="a"), FORCE,
            Flag("volumes", "Also volumes without a name."),
            Flag("filter", "Only those: until=TIME, label=KEY[=VALUE].", "FILTER", many=True)),
    Command("system check", "", "system:check", "Read everything and compare it with its digests",
            Flag("repair", "Remove what is damaged, so that it can be pulled again.")),
    Command("system boot", "", "containers:boot", "Start the containers whose restart policy asks for it",
            text="To be called once after the host has booted: --restart always, and unless-stopped for those that"
            " nobody stopped. Prints the names of those that it started."),
    Command("info, system info", "", "own:info", "This host and this ocim", FORMAT),
    Command("registry serve", "", "registry:serve", "Be a registry (distribution-spec 1.1)",
            Flag("address", "Where it listens: [ADDRESS]:PORT; port 0: any that is free.", "ADDRESS", letters="a",
                 default="127.0.0.1:5000"),
            Flag("htpasswd", "Who may use it: a file of htpasswd -B.", "FILE", completes="file"),
            Flag("tls-cert", "Its certificate, for https.", "FILE", completes="file"),
            Flag("tls-key", "And the key, if it is another file.", "FILE", completes="file"),
            Flag("rules", "Who may do what, beside --htpasswd.", "FILE", completes="file"),
            Flag("insecure", "Listen beyond this machine without TLS or passwords all the same."),
            Flag("quiet", "Do not log requests.", letters="q")),
    Command("version", "", "own:version", "Print the versions of ocim, of the runtime and of Python", FORMAT),
    Command("completion", "SHELL", "completion:script", "Print the completion for bash, zsh or fish",
            text="For bash: ocim completion bash > /etc/bash_completion.d/ocim. For zsh: a file _ocim in a folder of"
            " $fpath. For fish: ~/.config/fish/completions/ocim.fish."),
    Command("complete", "[WORD...]", "completion:complete", "What the shell may offer", hidden=True, open_ended=True),
    Command("manual", "", "manual:write", "The manual page, as troff", hidden=True),
    Command("help", "[COMMAND...]", "own:help_", "Help for a command"),
)  # fmt: skip
