"""Groups of assets that see each other whole: who is in them, and attention as a mask would have it."""

import pytest
import torch
import torch.nn.functional as F

from scenegen.models.asset_groups import asset_groups, grouped_attention


@pytest.mark.parametrize("group_size", range(2, 9))
@pytest.mark.parametrize("num_assets", range(1, 31))
def test_every_asset_has_one_group_and_sees_its_neighbours(num_assets, group_size):
    groups = asset_groups(num_assets, group_size)
    assert [asset for group in groups for asset in group.own] == list(range(num_assets))
    for group in groups:
        whole = {0, *group.seen}
        assert set(group.own) <= whole and len(whole) == min(num_assets, group_size)
        assert whole <= set(range(num_assets))


def test_neighbouring_groups_overlap():
    groups = asset_groups(30, 8)
    for before, after in zip(groups, groups[1:]):
        assert len(set(before.seen) & set(after.seen)) >= 3


def test_all_assets_are_one_group_where_they_fit_or_nothing_is_said():
    for num_assets, group_size in ((5, 5), (5, 9), (5, None), (1, 2)):
        assert len(asset_groups(num_assets, group_size)) == 1
    with pytest.raises(ValueError, match="at least 2 assets, got 1"):
        asset_groups(5, 1)


@pytest.mark.parametrize("group_size", [2, 3, 4, 6, 7])
def test_attention_in_groups_is_that_of_a_mask(group_size):
    scenes, num_assets, length, num_scene_tokens = 2, 7, 5, 2
    generator = torch.Generator().manual_seed(0)
    shape = (3, scenes, num_assets * length, 2, 8)
    q, k, v = torch.randn(shape, generator=generator).unbind(0)
    groups = asset_groups(num_assets, group_size)
    result = grouped_attention(
        q, k, v, num_assets=num_assets, num_scene_tokens=num_scene_tokens, groups=groups
    )
    asset = torch.arange(num_assets * length) // length
    mask = (torch.arange(num_assets * length) % length < num_scene_tokens).repeat(len(asset), 1)
    for group in groups:
        for own in group.own:
            mask[asset == own] |= torch.isin(asset, torch.tensor([0, *group.seen]))
    heads = (part.transpose(1, 2) for part in (q, k, v))
    expected = F.scaled_dot_product_attention(*heads, attn_mask=mask).transpose(1, 2)
    torch.testing.assert_close(result, expected)
