"""A scheme whose era makes ordinary areas of remap_file_pages is compared with one that makes nonlinear ones."""


def test_compare_is_not_alarmed_by_ordinary_areas_for_nonlinear_ones(rmapbox):
    ran = rmapbox(
        "compare",
        "mmap_windows",
        "40",
        "2",
        "remap",
        "--rmap",
        "pte_chain,anon_vma,anon_vma_chain,anon_vma_chain:era=4.0",
    )
    assert ran.status == 0 and "the guests saw the same" in ran.out, ran.err
