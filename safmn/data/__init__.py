"""Images, from a file to a training batch, in the order in which they pass.

- `images`: one picture file -> uint8 RGB array, or a refusal that names the file
- `bicubic`: MATLAB's bicubic reduction and enlargement, bit for bit
- `pairs`: a folder -> pairs of HR and LR images, LR made where it is missing
- `sources`: a dataset's name -> where its images are, and which of them a study selects
- `supply`: which datasets of a study must be downloaded; `catalogue`, `fetching` and `download` do it
- `manifest`: the hashes of a packed dataset's images, by which two people can compare their data
- `packed`: a dataset decoded once into one memory-mapped uint8 file
- `patches`: seed and iteration -> a batch of augmented patches
"""
