"""The options of every verb that talks to Azure."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

TreePath = Annotated[
    str, typer.Argument(metavar="PATH", help="The Git repository that holds the tree: a directory or a URL.")
]
Revision = Annotated[str, typer.Option("--revision", help="Commit, tag or branch; the working directory if empty.")]
State = Annotated[
    Path | None,
    typer.Option("--state", help="State directory of the embedded Azure. Default: $KEYLEAF_STATE or .keyleaf."),
]
Real = Annotated[
    bool, typer.Option("--azure", help="Talk to the Azure of the environment, even where an embedded one runs.")
]
Json = Annotated[bool, typer.Option("--json", help="Answer with one JSON document.")]
TreeId = Annotated[
    str, typer.Option("--tree-id", help="Marks in Azure what belongs to this tree. Default: its root Application.")
]
Subscription = Annotated[str, typer.Option("--subscription", help="Subscription id. Or $AZURE_SUBSCRIPTION_ID.")]
ResourceGroup = Annotated[
    str, typer.Option("--resource-group", help="Where identities and vaults land. Or $KEYLEAF_RESOURCE_GROUP.")
]
Region = Annotated[str, typer.Option("--location", help="Azure region. Or $KEYLEAF_LOCATION.")]
Issuer = Annotated[str, typer.Option("--issuer", help="The cluster's OIDC issuer. Or $KEYLEAF_ISSUER.")]
BindTo = Annotated[
    str,
    typer.Option(
        "--bind",
        help="Scope of the roles: secret, vault or resource-group; wider ones get a condition on secret names.",
    ),
]
CreateVaults = Annotated[
    bool, typer.Option("--create-vaults", help="Create the vaults that Git names and Azure lacks.")
]
