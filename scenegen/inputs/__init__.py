"""What people bring: photos, cut-outs, masks, label images, arrays and scene folders, read and checked."""
