"""The commands for images and registries."""

from __future__ import annotations

from ocirt.manager.cli.grammar import Command, Flag
from ocirt.manager.cli.table_containers import FILTER, FORCE, LIST_FORMAT, NO_TRUNC, PLATFORM

_QUIET = Flag("quiet", "Print only the result.", letters="q")
_CHANGE = Flag("change", "A Dockerfile instruction for the image, such as CMD.", "INSTRUCTION", letters="c", many=True)
_LS_TEXT = """
Filters: reference, label, dangling, before, since.

Fields of templates: .ID .Repository .Tag .Digest .CreatedSince .CreatedAt .Size.
"""

COMMANDS: tuple[Command, ...] = (
    Command("pull, image pull", "NAME[:TAG|@DIGEST]", "images:pull", "Fetch an image from a registry", PLATFORM, _QUIET,
            Flag("all-tags", "All tags of the repository.", letters="a"),
            text="A pull that was interrupted goes on where it ended. registries.toml names mirrors (ocim help login).",
            examples=(("ocim pull registry.example.com/tools/git:2", "From a registry of one's own."),)),
    Command("push, image push", "NAME[:TAG]", "images:push", "Send an image to a registry", _QUIET,
            Flag("all-tags", "All tags that the repository has here.", letters="a"), completes="image"),
    Command("images, image ls, image list", "[NAME[:TAG]]", "images:listed", "List images",
            Flag("all", "Also those without a name that others are made of.", letters="a"),
            Flag("digests", "Also digests."), FILTER, LIST_FORMAT, NO_TRUNC, Flag("quiet", "Only ids.", letters="q"),
            text=_LS_TEXT, completes="image"),
    Command("rmi, image rm, image remove", "IMAGE...", "images:remove", "Remove images, or names of them",
            Flag("force", "Also if a container that has ended uses it.", letters="f"),
            Flag("no-prune", "Accepted: what nothing needs is removed when nothing needs it."), completes="image"),
    Command("tag, image tag", "IMAGE NAME[:TAG]", "images:tag", "Give an image one name more", completes="image"),
    Command("image inspect", "IMAGE...", "inspect:image", "All about images, as JSON",
            Flag("format", "A template, or json.", "FORMAT", letters="f"), completes="image"),
    Command("history, image history", "IMAGE", "images:history", "The steps that made an image", LIST_FORMAT,
            Flag("human", "Sizes and times for people.", letters="H", default=True),
            NO_TRUNC, Flag("quiet", "Only ids.", letters="q"), completes="image"),
    Command("save, image save", "IMAGE...", "images:save", "Write images to a tar archive",
            Flag("output", "To this file. Default: stdout.", "FILE", letters="o", completes="file"),
            Flag("format", "Its layout. Both are read by docker, podman and skopeo.", "FORMAT", default="oci",
                 values=("oci", "docker")), completes="image"),
    Command("load, image load", "", "images:load", "Read images from a tar archive that save wrote",
            Flag("input", "From this file. Default: stdin.", "FILE", letters="i", completes="file"), _QUIET),
    Command("import, image import", "FILE|- [NAME[:TAG]]", "images:import_", "Make an image of a tar archive of files",
            _CHANGE, Flag("message", "What for.", "MESSAGE", letters="m"), completes="file"),
    Command("image prune", "", "images:prune", "Remove images that have no name",
            Flag("all", "All that no container uses.", letters="a"), FORCE,
            Flag("filter", "Only those: until=TIME, label=KEY[=VALUE].", "FILTER", many=True)),
    Command("login", "[REGISTRY]", "login:login", "Keep a registry's password",
            Flag("username", "Asked for if it is not given.", "NAME", letters="u"),
            Flag("password", "Others can see it in the list of processes: better --password-stdin.", "PASSWORD",
                 letters="p"),
            Flag("password-stdin", "Read it from stdin."),
            text="""
It is kept as docker does, in $DOCKER_CONFIG/config.json or ~/.docker/config.json, or by the credential helper that is
named there ("credsStore", "credHelpers"); podman's auth.json is read too ($REGISTRY_AUTH_FILE).

Mirrors, plain http and certificates of registries are settings of registries.toml: $OCIM_REGISTRIES, else
$XDG_CONFIG_HOME/ocim/registries.toml, else /etc/ocim/registries.toml.
"""),
    Command("logout", "[REGISTRY]", "login:logout", "Forget a registry's password"),
)  # fmt: skip
