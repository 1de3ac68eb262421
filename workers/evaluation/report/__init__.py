"""Reports on evaluations: a page and a Markdown file with plots, to be looked at rather than read.

`compose` turns evaluations into a document of sentences, figures and tables (`sections/`, `figures/`: pure), `page` and
`markdown` write it out, `write` puts it on disk.
"""

from workers.evaluation.report.write import write

__all__ = ["write"]
