"""The list of releases is sae-lens's own, without the cost of importing it."""

from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory

from geofilter.model.releases import releases


def test_every_release_is_as_sae_lens_reads_it() -> None:
    listed = get_pretrained_saes_directory()
    assert releases().keys() == listed.keys()
    for name, release in releases().items():
        assert release.repository == listed[name].repo_id
        assert release.conversion == listed[name].conversion_func
        assert release.pages == listed[name].neuronpedia_id
