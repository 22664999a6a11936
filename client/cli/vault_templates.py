"""backup-tool vault templates"""

import click

from client.cli.console import emit_array, say, size_text, table
from client.cli.invocation import Invocation, Json


def vault_templates(context: click.Context, as_json: Json = False) -> None:
    """List what `vault request` can be asked for."""
    from oort.auth.v1.profiles_pb2 import ListTemplatesRequest

    with Invocation.of(context).device() as device:
        pages = device.connection.pages(device.profiles.ListTemplates, ListTemplatesRequest())
        templates = [template for page in pages for template in page.templates]
    if as_json:
        emit_array(
            {
                "id": template.id,
                "name": template.name,
                "description": template.description,
                "copies": template.copies,
                "quota_bytes": template.quota_bytes,
            }
            for template in templates
        )
    elif not templates:
        say("Your provider offers no storage templates.")
    else:
        table(
            ("NAME", "COPIES", "QUOTA", "DESCRIPTION"),
            (
                (
                    template.name,
                    str(template.copies),
                    size_text(template.quota_bytes) if template.quota_bytes else "-",
                    template.description,
                )
                for template in templates
            ),
        )
