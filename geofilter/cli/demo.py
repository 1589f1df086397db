"""`geofilter demo`: the whole story on the bundled organism."""

import click


@click.command("demo")
def command() -> None:
    """Discover, score and filter the organism's contaminated demo set, and say what came out.

    Needs no network. The figures speak of the organism only.

    \b
    Example:
      geofilter demo
    """
    from geofilter import demo

    demo.run()
