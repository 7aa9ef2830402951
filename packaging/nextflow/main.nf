// An image to its mask, by `unettile segment`. ext.args has further options; a process that is resumed begins afresh,
// since Nextflow gives it a new folder.
process UNETTILE_SEGMENT {
    tag "${meta.id}"
    label 'process_medium'

    conda "${moduleDir}/environment.yml"
    container 'unettile:latest'

    input:
    tuple val(meta), path(image)
    path model // [] for the shipped model

    output:
    tuple val(meta), path("${prefix}.${suffix}"), emit: mask
    path 'versions.yml', emit: versions

    when:
    task.ext.when == null || task.ext.when

    script:
    def args = task.ext.args ?: ''
    def named = model ? "--model ${model}" : ''
    prefix = task.ext.prefix ?: "${meta.id}_mask"
    suffix = task.ext.suffix ?: 'tif'
    """
    export OMP_NUM_THREADS=${task.cpus}
    unettile segment ${image} -o ${prefix}.${suffix} ${named} ${args}

    cat <<-END_VERSIONS > versions.yml
    "${task.process}":
        unettile: \$(unettile --version | sed 's/.* //')
    END_VERSIONS
    """

    stub:
    prefix = task.ext.prefix ?: "${meta.id}_mask"
    suffix = task.ext.suffix ?: 'tif'
    """
    touch ${prefix}.${suffix}

    cat <<-END_VERSIONS > versions.yml
    "${task.process}":
        unettile: stub
    END_VERSIONS
    """
}
