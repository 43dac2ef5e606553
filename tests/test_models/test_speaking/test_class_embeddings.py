import torch

from mvp_mm.models.speaking.class_embeddings import ClassEmbeddings


def embeddings():
    vectors = torch.eye(4)
    return ClassEmbeddings(vectors, torch.tensor([0, 1, 1, 2]), ('sky', 'person, people', 'road'))


def test_cosines_do_not_depend_on_length():
    features = torch.tensor([[[3.0, 4.0, 0.0, 0.0]], [[0.0, 0.0, 0.5, 0.0]]])
    expected = torch.tensor([[[0.6, 0.8, 0.0, 0.0]], [[0.0, 0.0, 1.0, 0.0]]])
    assert torch.allclose(embeddings().cosines(features), expected)


def test_a_class_has_the_largest_value_of_its_names():
    values = torch.tensor([[0.1, -0.5, 0.4, 0.3], [0.2, 0.9, -1.0, -2.0]])
    assert torch.equal(embeddings().of_classes(values), torch.tensor([[0.1, 0.4, 0.3], [0.2, 0.9, -2.0]]))
    assert torch.equal(embeddings().of_classes(values.T, dim=0), embeddings().of_classes(values).T)
    one_each = ClassEmbeddings(torch.eye(4), torch.arange(4), tuple('abcd'))
    assert torch.equal(one_each.of_classes(values), values)


def test_the_gradient_goes_to_the_name_that_counts():
    values = torch.tensor([[0.1, -0.5, 0.4, 0.3]], requires_grad=True)
    embeddings().of_classes(values).sum().backward()
    assert values.grad.tolist() == [[1, 0, 1, 1]]
